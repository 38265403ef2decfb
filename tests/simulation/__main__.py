"""python -m tests.simulation --seeds 10000 [--from N] [--seed N]: see `story.py`."""

import argparse
import logging
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.story import run
from tests.simulation.world import Broken


def broken(seed: int) -> str | None:
    """What a seed breaks, and what happened before; None if nothing."""
    logging.disable()
    try:
        run(seed)
    except Broken as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--seed", type=int, help="this one alone, with all that happened")
    asked = parser.parse_args()
    if asked.seed is not None:
        problem = broken(asked.seed)
        print(problem or "nothing is broken")
        return problem is not None
    begun = time.monotonic()
    failed = 0
    seeds = range(asked.first, asked.first + asked.seeds)
    with ProcessPoolExecutor() as pool:
        for seed, problem in zip(seeds, pool.map(broken, seeds, chunksize=10), strict=True):
            if problem is not None:
                failed += 1
                print(f"seed {seed}: {problem.splitlines()[-1][:400]}", flush=True)
    print(f"{len(seeds)} seeds in {time.monotonic() - begun:.1f} s, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
