"""benchmarks/compare.py: other engines' results, read and put beside ours."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare
from benchmarks.compare import CannotTakePartError, Request, Timing, parse_llama_bench
from bitnet.bench.probes import Limits, Probes
from tests.tiny_model import write_tiny_model

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fake program is a script")


def llama_result(n_prompt: int, n_gen: int, samples: list[float]) -> dict[str, Any]:
    """An object of llama-bench's array, with the fields that matter and some that do not."""
    return {
        "build_commit": "8cf427ff",
        "build_number": 5163,
        "cpu_info": "AMD Ryzen 7 7800X3D 8-Core Processor",
        "gpu_info": "",
        "backends": "CPU",
        "model_filename": "models/ggml-model-i2_s.gguf",
        "model_type": "bitnet-b1.58 2B I2_S - 2 bpw ternary",
        "model_size": 1181000000,
        "model_n_params": 2412820480,
        "n_batch": 2048,
        "n_ubatch": 512,
        "n_threads": 2,
        "type_k": "f16",
        "type_v": "f16",
        "use_mmap": True,
        "tensor_split": "0.00",
        "n_prompt": n_prompt,
        "n_gen": n_gen,
        "test_time": "2025-04-24T11:58:50Z",
        "avg_ns": 72135640,
        "stddev_ns": 1453752,
        "avg_ts": sum(samples) / len(samples),
        "stddev_ts": 140.341520,
        "samples_ns": [74601900] * len(samples),
        "samples_ts": samples,
    }


RESULTS = [llama_result(9, 0, [90.0, 100.5, 110.0]), llama_result(0, 3, [20.0, 22.0, 21.0])]
ENGINE = "llama-bench 8cf427ff, bitnet-b1.58 2B I2_S - 2 bpw ternary"


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A program that notes its arguments and prints what llama-bench would."""
    path = tmp_path / "llama-bench"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, sys\n"
        f"pathlib.Path({str(tmp_path / 'arguments')!r}).write_text(json.dumps(sys.argv[1:]))\n"
        "print('warning: asserts enabled', file=sys.stderr)\n"
        f"print({json.dumps(RESULTS, indent=2)!r})\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Probes, "measure", lambda _: Limits(50e9, 500e9))
    return write_tiny_model(tmp_path / "tiny.gguf")


def test_results_of_llama_bench_are_read() -> None:
    assert parse_llama_bench("llama-bench", json.dumps(RESULTS)) == [
        Timing(ENGINE, "pp9", (90.0, 100.5, 110.0)),
        Timing(ENGINE, "tg3", (20.0, 22.0, 21.0)),
    ]
    both = json.dumps([llama_result(9, 3, [5.0])])
    assert parse_llama_bench("llama-bench", both)[0].test == "pp9+tg3"


@pytest.mark.parametrize("output", ["", "{}x", "[{}]", "[1]", "3", '[{"n_prompt": "x"}]'])
def test_other_output_is_not_taken_for_results(output: str) -> None:
    with pytest.raises(CannotTakePartError, match="some/llama-bench printed no results"):
        parse_llama_bench("some/llama-bench", output)


def test_all_engines_are_in_one_table(
    fake: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(tiny), "-p", "9", "-n", "3", "-t", "2", "-r", "3"]
    compare.main([*arguments, "--llama-bench", f"{fake}=their.gguf"])
    out, err = capsys.readouterr()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines()]
    assert cells[0] == ["engine", "test", "tokens/s", "min to max"]
    tests = [row[1] for row in cells[2:]]
    assert tests == ["pp9", "pp9", "tg3", "tg3"]
    assert [ENGINE, "pp9", "100.50", "90.00 to 110.00"] in cells
    assert [ENGINE, "tg3", "21.00", "20.00 to 22.00"] in cells
    assert sum(row[0].startswith("bitnet, ") for row in cells) == 2
    assert err.startswith("left out: transformers ")
    assert len(err.splitlines()) == 1
    given = json.loads((tmp_path / "arguments").read_text())
    assert given == "-m their.gguf -p 9 -n 3 -t 2 -r 3 -o json".split()


def test_a_program_that_cannot_run_is_left_out_and_said_why(fake: Path, tiny: Path) -> None:
    request = Request(tiny, 9, 3, 1, 1)
    with pytest.raises(CannotTakePartError, match="cannot run no/such: No such file"):
        compare.llama_bench("no/such", "x.gguf", request)
    fake.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('error: failed to load model')\n")
    with pytest.raises(CannotTakePartError, match="failed: error: failed to load model"):
        compare.llama_bench(str(fake), "x.gguf", request)


def test_a_model_that_we_cannot_run_ends_it() -> None:
    with pytest.raises(SystemExit, match="there is no file or folder"):
        compare.main(["no/such.gguf"])


@pytest.mark.parametrize("argument", ["program", "=model", "program="])
def test_a_program_needs_its_model(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        compare.main(["model.gguf", "--llama-bench", argument])
    assert ended.value.code == 2
    assert "must be PATH=MODEL.gguf" in capsys.readouterr().err
