"""Jobs that run after others have succeeded, for the same due time.

goflow serve examples/flow/after.py
"""

from goflow import Context, Job

orders = Job("orders", "0 3 * * *", active=True, description="Loads the orders")
stock = Job("stock", after="orders", description="Runs after orders")
mail = Job("mail", after=["orders", "stock"], description="Runs after both, for the same due time")


@orders.task
def load() -> int:
    return 120


@stock.task
def count() -> int:
    return 7


@mail.task
def send(context: Context) -> str:
    return f"sent, caused by {context.scheduled_at or 'hand'}"
