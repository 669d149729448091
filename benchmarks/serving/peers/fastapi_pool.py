"""FastAPI with the SavedModel's signature in a thread pool, as the documentation suggests."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI, File
from peer_model import PORT, answer, load, prepare

app = FastAPI()
predict = load()


@app.post("/predict")
def route(file: bytes = File()) -> dict[str, object]:  # not asynchronous: FastAPI runs it in its thread pool
    return answer(predict(prepare(file)))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning", access_log=False)
