"""goflow inside a FastAPI application: its dashboard under /goflow, jobs submitted by its routes.

    uvicorn --app-dir examples fastapi_app:app

Then POST /orders/7 ships an order, and /goflow/ shows what became of it.
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

# `gf.lifespan` starts and stops the engine with the application. Without it schedules would
# begin with the first request to /goflow.
app = FastAPI(lifespan=gf.lifespan)
app.mount("/goflow", gf)


@app.post("/orders/{order}", status_code=202)
async def place(order: int) -> dict[str, Any]:
    """Answers once the execution is durable; asking twice for the same order ships it once."""
    submission = await gf.submit("ship-order", {"order": order}, key=f"order-{order}")
    return {"order": order, "execution": submission.id}
