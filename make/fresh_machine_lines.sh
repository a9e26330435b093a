#!/usr/bin/env bash
# What a newcomer does with README.md in hand; fresh_machine.sh has it done. With arguments, make is run
# with them as well, such as `test`.
set -euo pipefail
cd ~/ic-bridge
step() { echo "== $*" >&2; }

step "make demo"
make demo

# The lines for users, from a folder and in an environment of one's own.
step "README's lines"
python3 -m venv ~/own
export PATH=~/own/bin:$PATH
line=$(sed -nE "s/.*from a clone: \`(pip install [^\`]*)\`.*/\1/p" ~/ic-bridge/README.md)
[ -n "$line" ] || { echo "README.md does not say how to install from a clone" >&2; exit 1; }
(cd ~/ic-bridge && eval "$line --quiet --disable-pip-version-check")
mkdir -p ~/mine && cd ~/mine
python3 - ~/ic-bridge/README.md <<'PY'
import re, sys
from pathlib import Path

blocks = re.findall(r'```python title="(.*?)"\n(.*?)```', Path(sys.argv[1]).read_text(), re.DOTALL)
assert [title for title, _ in blocks] == ["test_echo.py", "hello.py"], blocks
for title, code in blocks:
    Path(title).write_text(code)
PY
pytest -q -p no:cacheprovider test_echo.py
python hello.py
python -c 'from bridge.contracts import motoko_canister as m; open("my.wasm", "wb").write(m("both_maf"))'
ic-bridge conformance --receiver my.wasm --dialect maf --html report.html --scenario F1 --seed 1
test -s report.html

if [ $# -gt 0 ]; then
  step "make $*"
  make -C ~/ic-bridge "$@"
fi
