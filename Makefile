# Needs Python 3.10 or later with its headers, and a C compiler; the rest is installed into .venv.
#
#   make demo     a story by the bundled model
#   make install  libbitnet for C and C++ into PREFIX, below DESTDIR; and make uninstall
#   make test     the tests, of libbitnet too
#   make compat   the tests that any libbitnet must pass, on an installed one
#   make lint     ruff and mypy
#   make arm      some of the tests on an emulated AArch64, from Debian's packages; -j2 helps
#   make parity   the tests that need torch: bitnet beside transformers, and the training pipeline
#   make fuzz     the readers of files with atheris, each for FUZZ_SECONDS (Linux, macOS)
#   make clean    remove everything that these made

PYTHON ?= python3
VENV := .venv
PARITY := build/venv-parity
FUZZ := build/venv-fuzz
FUZZ_SECONDS ?= 60
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
PREFIX ?= /usr/local
DESTDIR ?=
INSTALL = $(VENV)/bin/python install_cffi.py "$(PREFIX)" $(if $(DESTDIR),--destdir "$(DESTDIR)")

ARM := build/arm64
ARM_PYTHON = PYTHONPATH=$(ARM)/site $(ARM)/bin/qemu-aarch64 -L $(ARM)/root
ARM_PYTEST = $(ARM)/root/python -m pytest --hypothesis-profile=emulated tests/codegen tests/kernels \
	tests/program/test_tl_models.py::test_tensors_used_in_place_give_the_reference \
	tests/test_bundled_model.py::test_logits_have_the_bits_that_were_recorded \
	--ignore-glob='*machine_code.py'

.PHONY: demo install uninstall test compat lint arm arm-dotprod arm-neon arm-root parity \
	parity-venv fuzz fuzz-venv clean

demo: $(VENV)/cli.stamp
	$(VENV)/bin/bitnet run -p "Once upon a time" -n 80 --temperature 0

install: $(VENV)/dev.stamp
	$(INSTALL)

uninstall: $(VENV)/dev.stamp
	$(INSTALL) --uninstall

test: $(VENV)/dev.stamp build/libbitnet.stamp
	$(VENV)/bin/python -m pytest -rsfE -n auto --dist loadfile

compat: $(VENV)/dev.stamp
	rm -rf build/prefix
	$(VENV)/bin/python install_cffi.py "$(CURDIR)/build/prefix"
	BITNET_LIBRARY="$(CURDIR)/build/prefix/lib/libbitnet.so" \
		$(VENV)/bin/python -m pytest -rsfE compat_tests

lint: $(VENV)/dev.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# On a CPU with all features, and on one of ARMv8.0.
arm: arm-dotprod arm-neon

arm-dotprod: arm-root
	$(ARM_PYTHON) -cpu max $(ARM_PYTEST) \
		-k "not checked and not scalar and not neon and (ternary or codegen or not without)"

arm-neon: arm-root
	$(ARM_PYTHON) -cpu cortex-a53 $(ARM_PYTEST) -k "neon and not checked"

arm-root: $(ARM)/root.stamp

parity: parity-venv
	$(PARITY)/bin/python -m pytest -rsfE -n auto --dist loadfile tests/parity tests/training

parity-venv: $(PARITY)/torch.stamp

fuzz: fuzz-venv
	$(FUZZ)/bin/python -m tests.fuzz.run $(FUZZ_SECONDS)

fuzz-venv: $(FUZZ)/atheris.stamp

clean:
	rm -rf $(VENV) build bitnet.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

%/bin/python:
	$(PYTHON) -m venv $*

$(VENV)/cli.stamp: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python $(PIP_INSTALL) -e '.[cli]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python $(PIP_INSTALL) -e '.[cli,hub,dev]'
	touch $@ $(VENV)/cli.stamp

$(ARM)/root.stamp: .ci/arm-root pyproject.toml $(VENV)/dev.stamp
	.ci/arm-root $(CURDIR)/$(VENV)/bin/python $(ARM)
	touch $@

$(PARITY)/torch.stamp: pyproject.toml training/requirements.txt | $(PARITY)/bin/python
	$(PARITY)/bin/python $(PIP_INSTALL) -r training/requirements.txt -e '.[dev]'
	touch $@

$(FUZZ)/atheris.stamp: pyproject.toml tests/fuzz/requirements.txt | $(FUZZ)/bin/python
	$(FUZZ)/bin/python $(PIP_INSTALL) -r tests/fuzz/requirements.txt -e '.[cli]'
	touch $@

build/libbitnet.stamp: build_cffi.py bitnet.h bitnet_ext.h pyproject.toml $(wildcard cabi/*) $(VENV)/dev.stamp
	$(VENV)/bin/python build_cffi.py
	touch $@
