#!/usr/bin/env bash
# What a newcomer does with README.md in hand; fresh_machine.sh has it done. With arguments, make is run
# with them as well, such as `test`.
set -euo pipefail
cd ~/ic-bridge
step() { echo "== $*" >&2; }

step "make demo"
make demo

# The lines for users, with the package as `make demo` installed it, from a folder of one's own.
step "README's lines"
mkdir -p ~/mine && cd ~/mine
python3 - ~/ic-bridge/README.md <<'PY'
import re, sys, textwrap
from pathlib import Path

blocks = re.findall(r'```python(?: title="(.*?)")?\n(.*?)```', Path(sys.argv[1]).read_text(), re.DOTALL)
assert len(blocks) == 2, blocks
for title, code in blocks:
    if title:
        Path(title).write_text(code)
    else:  # a fragment: what stands at its top level is awaited
        imports = "\n".join(re.findall(r"^(?:from|import) .*$", code, re.MULTILINE))
        body = re.sub(r"^(?:from|import) .*\n", "", code, flags=re.MULTILINE)
        main = "async def main():\n" + textwrap.indent(body, "    ")
        Path("watch.py").write_text(f"import asyncio\n{imports}\n{main}\nasyncio.run(main())\n")
PY
export PATH=~/ic-bridge/.venv/bin:$PATH
python -m pip install --quiet --disable-pip-version-check pytest
pytest -q -p no:cacheprovider test_echo.py
python watch.py
python -c 'from bridge.contracts import motoko_canister as m; open("my.wasm", "wb").write(m("both_maf"))'
ic-bridge conformance --receiver my.wasm --dialect maf --html report.html --scenario F1 --seed 1
test -s report.html

if [ $# -gt 0 ]; then
  step "make $*"
  make -C ~/ic-bridge "$@"
fi
