"""Jobs with names that are difficult for proxies, and one that runs until a file exists."""

import time
from pathlib import Path

from goflow import Goflow, Job, MemoryStore, Task

NAMES = ["a/b", "a b", "50%", "a%2Fb", "größe/日本", "a;b?c#d", "a\\b", "../up", "a+b&c='\"", "//x"]


class Say:
    def run(self) -> str:
        print("hello")
        return "done"


class Wait:
    def run(self) -> None:
        while not Path("open").exists():
            time.sleep(0.01)


gf = Goflow(MemoryStore(), stop_timeout=0.1)
for name in NAMES:
    gf.add_job(Job(name, tasks=[Task(name, Say())]))
gf.add_job(Job("waits", tasks=[Task("wait", Wait())]))
