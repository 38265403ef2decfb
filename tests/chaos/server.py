"""The server of the chaos test: `python server.py STORE PORT …`.

`places.json` beside the store has the addresses of the hostile servers.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import misbehaving

from goflow import Goflow

STORE, PORT = sys.argv[1:3]
FOLDER = Path(STORE).parent

if __name__ == "__main__":
    ports = json.loads((FOLDER / "places.json").read_text())
    gf = Goflow(STORE, with_seconds=True, ui_path=None, stop_timeout=1, pools={"narrow": 1})
    for job in misbehaving.good_jobs() + misbehaving.lanes():
        gf.add_job(job)
    for job, _ in misbehaving.unruly_by_schedule():
        gf.add_job(job)
    for bad in misbehaving.bad_jobs(misbehaving.Places(FOLDER, **ports)):
        gf.add_job(bad.job)
    misbehaving.ARMED = True
    gf.run(f"127.0.0.1:{PORT}")
