"""examples/c and bitnet.hpp, built with make and with cmake against an installed libbitnet.

The texts are those that the Python API gives.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import bitnet
from compat_tests.installed import moved_prefix
from compat_tests.programs import CC, CXX, OURS, PROGRAMS, ROOT, WARNINGS
from tests.tiny_model import TEXT, WORDS, write_tiny_model

pytestmark = OURS

SOURCES = ROOT / "examples" / "c"
EXAMPLES = ("hello", "chat", "batch", "server", "hello_cpp")
STORY = "Once upon a time"
GREEDY = {"max_new_tokens": 80, "temperature": 0}
CHAT = {"temperature": 1.0, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.1}

Run = Callable[..., subprocess.CompletedProcess[str]]


def succeed(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout + done.stderr


@pytest.fixture(scope="module")
def prefix() -> Path:
    return moved_prefix()


@pytest.fixture(scope="module")
def made(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs, built by the Makefile."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    folder = tmp_path_factory.mktemp("make")
    shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns(*EXAMPLES), dirs_exist_ok=True)
    succeed(
        "make", "-C", folder, f"PREFIX={prefix}", f"CC={CC}", f"CXX={CXX}", "CFLAGS=-Wall -Wextra"
    )
    return folder


@pytest.fixture(scope="module")
def cmake() -> str:
    found = shutil.which("cmake", path=sysconfig.get_path("scripts")) or shutil.which("cmake")
    if found is None:
        pytest.skip("needs cmake")
    return found


@pytest.fixture(scope="module")
def configured(cmake: str, prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs, built by CMake."""
    folder = tmp_path_factory.mktemp("cmake")
    tools = [f"-DCMAKE_C_COMPILER={CC}", f"-DCMAKE_CXX_COMPILER={CXX}"]
    succeed(cmake, "-S", SOURCES, "-B", folder, f"-DCMAKE_PREFIX_PATH={prefix}", *tools)
    succeed(cmake, "--build", folder)
    return folder


@pytest.fixture(scope="module")
def model() -> Iterator[bitnet.Model]:
    with bitnet.load() as loaded:
        yield loaded


def run(program: Path, *arguments: object, input: str = "") -> str:
    """Run a program without environment variables; it must say nothing on standard error."""
    done = subprocess.run(
        [program, *map(str, arguments)],
        env={},
        input=input,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def story(model: bitnet.Model) -> str:
    return model.generate(STORY, **GREEDY).text


@pytest.mark.parametrize("name", ["hello", "hello_cpp"])
def test_hello_tells_the_story(made: Path, name: str, story: str) -> None:
    assert len(story.split()) > 20
    assert run(made / name) == f"{story}\n"


def test_cmake_builds_all(configured: Path, story: str) -> None:
    assert all((configured / name).is_file() for name in EXAMPLES)
    assert run(configured / "hello") == f"{story}\n"


@pytest.mark.parametrize(("wanted", "found"), [("0.1", True), ("99", False)])
def test_cmake_knows_the_version(
    cmake: str, prefix: Path, tmp_path: Path, wanted: str, found: bool
) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(version C)\n"
        f"find_package(bitnet {wanted} REQUIRED CONFIG)\n"
    )
    command = [cmake, "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert (done.returncode == 0) is found, done.stderr
    assert found or bitnet.__version__ in done.stderr  # of the version that was not accepted


@pytest.mark.parametrize("name", EXAMPLES)
def test_missing_model_is_named(made: Path, name: str) -> None:
    done = subprocess.run(
        [made / name, "no/such/model"], env={}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Model not found: Model file not found: no/such/model" in done.stderr


def test_batch_tells_the_stories_of_single_runs(made: Path, model: bitnet.Model) -> None:
    prompts = re.findall(r'"([^"]+)"', re.search(r"prompts\[COUNT\] = .*", source("batch.c"))[0])
    assert len(prompts) == 3
    options = {**GREEDY, "max_new_tokens": 40}
    stories = (prompt + model.generate(prompt, **options).text for prompt in prompts)
    assert run(made / "batch") == "".join(f"{story}\n\n" for story in stories)


def source(name: str) -> str:
    return (SOURCES / name).read_text(encoding="utf-8")


def test_chat_remembers_what_was_said(made: Path, model: bitnet.Model) -> None:
    talk = []
    expected = ""
    for line in ("Tell me a story.", "And then?"):
        talk.append({"role": "user", "content": line})
        answer = model.chat(talk, max_new_tokens=512, seed=7, **CHAT).text
        talk.append({"role": "assistant", "content": answer})
        expected += f"> {answer}\n"
    text = run(made / "chat", model.path, 7, input="Tell me a story.\n\nAnd then?\n")
    assert text == expected.replace("\n> ", "\n> > ") + "> \n"


def test_chat_refuses_a_long_line_and_goes_on(made: Path) -> None:
    done = subprocess.run(
        [made / "chat"], env={}, input="x" * 5000 + "\n", capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "> > \n")
    assert done.stderr == "chat: that is too long, at most 4094 bytes\n"


@pytest.fixture
def port(made: Path) -> Iterator[int]:
    """The port of a running server."""
    command = [made / "server", bitnet.bundled_model_path(), "0"]
    with subprocess.Popen(command, env={}, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline().rpartition(":")[2])
        assert server.poll() is None
        server.kill()


def ask(port: int, data: bytes) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode()


def test_server_answers_several_at_once(port: int, model: bitnet.Model) -> None:
    prompts = [STORY, "The little robot", "In the garden", STORY]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda prompt: ask(port, f"{prompt}\n".encode()), prompts))
    assert answers == [model.generate(prompt, **GREEDY).text for prompt in prompts]


def test_server_outlives_bad_clients(port: int, story: str) -> None:
    assert ask(port, b"x" * 5000) == "error: the prompt is too long\n"
    assert ask(port, b"a\0b\n") == "error: the prompt has a NUL in it\n"
    assert ask(port, b"\xff\n").startswith("error: Invalid argument: Invalid UTF-8 in prompt")
    with socket.create_connection(("127.0.0.1", port)):
        pass  # says nothing
    with socket.create_connection(("127.0.0.1", port)) as hasty:
        hasty.sendall(f"{STORY}\n".encode())  # and does not wait for the answer
    assert ask(port, f"{STORY}\n".encode()) == story


def test_cpp_wrapper(prefix: Path, tmp_path: Path) -> None:
    program = tmp_path / "wrapper"
    flags = [f"-I{prefix}/include", f"-I{PROGRAMS}", f"-L{prefix}/lib", f"-Wl,-rpath,{prefix}/lib"]
    warnings = [*WARNINGS, "-Wconversion", "-Wshadow"]
    succeed(
        CXX, "-std=c++17", *warnings, PROGRAMS / "wrapper.cpp", "-o", program, *flags, "-lbitnet"
    )
    model = write_tiny_model(
        tmp_path / "tiny.gguf",
        first_words={"!": len(WORDS) - 1},
        chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
    )
    assert run(program, model, TEXT, WORDS[-1]) == ""
