"""goflow in a FastAPI application, with the dashboard under /goflow.

    uvicorn --app-dir examples fastapi_app:app

POST /orders/7 ships an order, and /goflow/ shows its execution.
"""

from typing import Any

from fastapi import FastAPI

from goflow import Goflow, Job

orders = Job("ship-order", params={"order": 0})


@orders.task
def pack(order: int) -> str:
    return f"parcel for order {order}"


@orders.task
def hand_over(pack: str) -> str:
    return f"{pack}: handed over"


gf = Goflow()
gf.add_job(orders)

# `gf.lifespan` starts and stops goflow with the application. Without it, schedules start with the
# first request to /goflow.
app = FastAPI(lifespan=gf.lifespan)
app.mount("/goflow", gf)


@app.post("/orders/{order}", status_code=202)
async def place(order: int) -> dict[str, Any]:
    """Responds when the execution is on disk. A repeated request does not ship the order again."""
    submission = await gf.submit("ship-order", {"order": order}, key=f"order-{order}")
    return {"order": order, "execution": submission.id}
