"""Items that a generator has yielded, in chunks of several.

The rule: a chunk is written in the transaction of the fact `Yielded` that refers to it, so the
chunks of a round have all items that its facts count, without gaps.
"""

CREATE = (
    """CREATE TABLE chunks (
        execution INTEGER NOT NULL,
        task TEXT NOT NULL,
        round INTEGER NOT NULL,
        first INTEGER NOT NULL,
        items INTEGER NOT NULL,
        body BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX chunks_place ON chunks (execution, task, round, first)",
)
ADD = """INSERT OR REPLACE INTO chunks (execution, task, round, first, items, body)
    VALUES (?, ?, ?, ?, ?, ?)"""
READ = """SELECT first, items, body FROM chunks
    WHERE execution = ? AND task = ? AND round = ? AND first <= ? ORDER BY first DESC LIMIT 1"""
FORGET_SOME = """DELETE FROM chunks WHERE rowid IN
    (SELECT rowid FROM chunks WHERE execution = ? LIMIT ?)"""
