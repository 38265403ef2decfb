"""Tasks that work on words of a file while it is read.

goflow run examples/flow/stream.py

`words` yields a word at a time. `measure` starts on the first one while `words` still reads, and
`note` follows item by item. Memory does not grow with the file.
"""

from collections.abc import Iterator

from goflow import Context, Job

job = Job("stream", params={"path": __file__, "most": 1000})


@job.task(retries=2)
def words(path: str, most: int) -> Iterator[dict[str, object]]:
    """The words of a file. A retry must yield the same ones again, in the same order."""
    number = 0
    with open(path, encoding="utf-8") as file:
        for line, text in enumerate(file, 1):
            for word in text.split():
                if number == most:
                    return
                number += 1
                yield {"line": line, "word": word}


@job.task(map_over="words", max_parallel=4)
async def measure(words: dict[str, int | str]) -> int:
    return len(str(words["word"]))


@job.task(map_over="measure")
async def note(measure: int, context: Context) -> bool:
    if measure > 20:
        context.log(f"word {context.index} has {measure} letters")
    return measure > 20


@job.task
def report(note: list[bool]) -> str:
    return f"{sum(note)} of {len(note)} words are long"
