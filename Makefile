# The two commands a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers

.PHONY: help demo test check lint types imports wheel-smoke agent agent-size bench-agent bench-fleet bench-policy bench-history clean

help:
	@echo "make demo   install fleetaudit and audit a throw-away SSH fleet on this machine"
	@echo "make test   install what the tests need and run them all"
	@echo "make check  what CI runs: lint, types, import layers, tests, wheel"

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "fleetaudit needs Python >= 3.10; set PYTHON=/path/to/python3.x"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/fleetaudit demo --output demo-out

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 3 --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

imports: $(VENV)/.installed-dev
	$(BIN)/lint-imports

wheel-smoke: $(VENV)/.installed-dev
	$(BIN)/python tests/wheel_smoke.py

# After a change of agent.py, agent_bpf.py or packing.py; a test sees that it was not forgotten.
agent: $(VENV)/.installed
	$(BIN)/python -c 'from pathlib import Path; from fleetaudit.agent import payload; \
	  [Path(payload.__file__).with_name(name).write_bytes(data) for name, data in payload.packed_files().items()]'

agent-size: $(VENV)/.installed
	@$(BIN)/python -c 'from fleetaudit.agent.payload import AgentConfig, agent_source, build; \
	  print(f"agent: {len(agent_source())} bytes of source, {len(build(AgentConfig(nonce=str(0)*16)))} sent to a host")'

bench-agent: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m benchmarks.agent_cost $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.bpf_cost

# What fleetaudit is measured against has an environment of its own: pyinfra wants an older paramiko. A peer
# that cannot be installed is a row that says so.
$(PEERS)/.installed: $(VENV)/.installed
	$(PYTHON) -m venv $(PEERS)
	-for peer in ansible-core pyinfra asyncssh parallel-ssh ssh2-python opa-eval; do \
	  $(PEERS)/bin/pip install --quiet --disable-pip-version-check "$$peer"; done
	@touch $@

bench-fleet: $(PEERS)/.installed
	$(BIN)/python -m benchmarks.fleet_cost --peers $(PEERS)/bin/python $(BENCH_ARGS)

bench-policy: $(PEERS)/.installed
	$(BIN)/python -m benchmarks.policy_cost --peers $(PEERS)/bin/python $(BENCH_ARGS)

bench-history: $(VENV)/.installed
	$(BIN)/python -m benchmarks.history_cost $(BENCH_ARGS)

check: lint types imports test wheel-smoke

clean:
	rm -rf $(VENV) $(PEERS) demo-out dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
