"""A job that branches, maps, yields, waits, starts another one, dispatches and has hooks, on a real
server that is killed again and again: its end is that of an undisturbed run.

A longer run: `pytest tests/crash/test_flow.py --kill-rounds 200`.
"""

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.crash.test_kill import Server, executions, until

SERVER = Path(__file__).with_name("flow_server.py")
OFTEN = 3  # executions of each job per process

FLOW = {
    "list": ["a", "b", "c"], "each": ["a0", "b1", "c2"], "joined": "a0-b1-c2", "fork": "left",
    "left": ["deep"], "deep": "deep", "join": {"deep": "deep"}, "waits": "there", "acts": 111,
    "yields": [0, 1, 2, 3, 4, 5], "works": [0, 2, 4, 6, 8, 10], "adds": [1, 3, 5, 7, 9, 11],
    "isolated": 111, "uses": [1, 2, 3], "child": {"double": 12, "go": {"n": 13}},
}  # fmt: skip
SKIPPED = {
    "right": "branch", "after_right": "upstream skipped", "shallow": "branch",
    "unwanted": "condition",
}  # fmt: skip
STATE = {"items": 6, "acts": 111, "isolated": 111}


class Killed:
    """The jobs on a server that is killed, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys: dict[str, str] = {}  # the job of each submit
        self.ids: dict[str, str] = {}  # the execution of each submit that was acknowledged
        self.kills = 0
        self.server = Server(folder, SERVER)

    def submit(self, often: int = OFTEN) -> None:
        """Submit jobs, and repeat submits that were not acknowledged."""
        for job in ("flow", "bad"):
            for _ in range(often):
                self.keys[f"{job}-{len(self.keys)}"] = job
        for key in self.keys.keys() - self.ids.keys():
            path = f"/api/jobs/{self.keys[key]}/submit"
            answer = self.server.client.post(path, headers={"Idempotency-Key": key})
            self.ids[key] = answer.raise_for_status().json()["id"]

    def kill(self) -> None:
        self.server.kill()
        self.kills += 1
        self.server = Server(self.folder, SERVER)

    def end(self) -> None:
        """Let everything end."""
        self.submit(0)
        flows = sum(job == "flow" for job in self.keys.values())

        def is_over() -> bool:
            found = executions(self.server)
            after = sum(one["job"] == "after" for one in found)
            return after == flows and all(one["finished"] is not None for one in found)

        until(is_over, 120)

    def attempts(self, execution: dict[str, Any]) -> Counter[tuple[str, int]]:
        """How often each attempt at the tasks and hooks of an execution began."""
        said = [line.split() for line in self.server.effects.read_text().splitlines()]
        its = [one[2:] for one in said if one[:2] == ["begin", execution["id"]]]
        return Counter((name, int(attempt)) for name, attempt in its)

    def detail(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.server.get(f"/api/executions/{id}")
        return found

    def check(self) -> None:
        """Every execution has ended as it must."""
        everything = executions(self.server)
        kinds = Counter(one["job"] for one in everything)
        count = len(self.ids) // 2
        # One child for each task that runs one, and a job that runs after.
        assert kinds == {"flow": count, "bad": count, "child": count, "leaf": 2 * count,
                         "after": count}  # fmt: skip
        assert {one["state"] for one in everything if one["job"] != "bad"} == {"successful"}
        for one in everything:
            execution = self.detail(one["id"])
            self.check_attempts(execution)
            if one["job"] == "flow":
                self.check_flow(execution)
            elif one["job"] == "bad":
                self.check_bad(execution)

    def check_attempts(self, execution: dict[str, Any]) -> None:
        """Each attempt began once, and those that were cut are shown as interrupted."""
        begun = self.attempts(execution)
        again = {name for (name, _), times in begun.items() if times > 1}
        assert again <= {"waits"}, "an attempt ran twice"  # it looks again and again
        for task in [*execution["tasks"], *execution["hooks"]]:
            if task["name"] in ("child", "go", "alone", "each", "works", "adds"):
                continue
            attempts = [one["attempt"] for one in task["attempts"] if one["state"] != "skipped"]
            ran = [attempt for name, attempt in begun if name == task["name"]]
            cut = {one["attempt"] for one in task["attempts"] if one["interrupted"]}
            # One that was cut may have been before its first line.
            assert set(ran) <= set(attempts), (task["name"], ran, attempts)
            assert set(attempts) <= {*ran, *cut}, (task["name"], ran, attempts)

    def check_flow(self, execution: dict[str, Any]) -> None:
        tasks = {task["name"]: task for task in execution["tasks"]}
        assert {name: task["state"] for name, task in tasks.items()} == dict.fromkeys(
            [*FLOW, "makes", "alone"], "successful"
        ) | dict.fromkeys(SKIPPED, "skipped")
        assert {name: tasks[name]["result"] for name in FLOW} == FLOW
        assert {name: tasks[name]["skip"]["reason"] for name in SKIPPED} == SKIPPED
        path = f"/api/executions/{execution['id']}"
        changes = self.server.get(f"{path}/state")["changes"]
        assert max(changes, key=lambda change: change["number"])["state"] == STATE
        assert len(changes) == 9, "an action is there twice, or is lost"
        artifact = self.server.client.get(f"{path}/tasks/makes/artifacts/made.txt")
        assert artifact.raise_for_status().text == execution["id"]
        assert [child["task"] for child in execution["children"]].count("child") == 1
        assert [child["task"] for child in execution["children"]].count("alone") == 1
        self.check_hooks(execution, {"succeeded": 1, "finished": 2}, "successful []")

    def check_bad(self, execution: dict[str, Any]) -> None:
        ends = {task["name"]: task["state"] for task in execution["tasks"]}
        assert ends == {"b": "failed", "next": "skipped", "tidy": "successful"}
        assert execution["tasks"][0]["error"] == "on purpose"
        self.check_hooks(execution, {"failed": 1}, "failed ['b']")

    def check_hooks(self, execution: dict[str, Any], expected: dict[str, int], told: str) -> None:
        """Each hook ran once, or once more for each time that it was cut."""
        for hook in execution["hooks"]:
            wanted = expected.get(hook["name"], 0)
            assert hook["state"] == ("successful" if wanted else "skipped")
            cut = hook["interruptions"]
            assert cut <= self.kills
            if wanted:
                assert hook["result"] == told
                # A hook that fails in its first attempt does not if that was cut.
                assert wanted - cut <= len(hook["attempts"]) - cut <= wanted


def test_an_undisturbed_flow_comes_to_the_end_that_is_expected(tmp_path: Path) -> None:
    jobs = Killed(tmp_path)
    jobs.submit()
    jobs.end()
    jobs.check()
    assert jobs.server.stop() == 0


def test_a_flow_that_is_killed_again_and_again_comes_to_the_same_end(
    tmp_path: Path, kill_rounds: int
) -> None:
    rng = random.Random(9)
    jobs = Killed(tmp_path)
    for _ in range(max(kill_rounds // 2, 1)):
        jobs.submit()
        time.sleep(rng.uniform(0, 0.9))  # not a wait: a random moment for the kill
        jobs.kill()
    jobs.end()
    jobs.check()
    found = [jobs.detail(one["id"]) for one in executions(jobs.server)]
    cut = sum(task["interruptions"] for one in found for task in one["tasks"])
    assert cut >= jobs.kills, "hardly a kill came while a task ran"
    assert jobs.server.stop() == 0
