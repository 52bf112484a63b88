# make demo    set up, run a whole gateway once, show what came back
# make test    set up, check style, types and imports, run the whole test suite
.PHONY: demo test check lock clean

# hundreds of processes start in the tests: what they import is compiled once, whatever the environment says
export PYTHONDONTWRITEBYTECODE :=

demo:
	@deploy/setup.sh run
	@.venv/bin/athanor demo

# the attacks alone first: they ask that a peer is answered within a second, whatever else this machine has to do
test:
	@deploy/setup.sh test
	@$(MAKE) --no-print-directory check
	.venv/bin/pytest tests/faults/test_attacks.py
	.venv/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25 --ignore tests/faults/test_attacks.py

check:
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

# the versions of today, from an environment of their own
lock:
	rm -rf .venv-lock && python3 -m venv .venv-lock
	.venv-lock/bin/pip install --quiet torch==2.13.0
	for kind in run test; do \
	    if [ $$kind = test ]; then extra='[test]'; else extra=''; fi; \
	    .venv-lock/bin/pip install --quiet --editable ".$$extra" && \
	    { echo '# Locked versions. Made anew by: make lock'; \
	      .venv-lock/bin/pip freeze --exclude-editable | sed 's/^torch==.*/torch==2.13.0/'; } > requirements/$$kind.lock; \
	done
	rm -rf .venv-lock

clean:
	rm -rf demo var .mypy_cache .ruff_cache .pytest_cache
