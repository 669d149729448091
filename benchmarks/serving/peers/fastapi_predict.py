"""FastAPI as most tutorials write it: ``model.predict`` inside an asynchronous route."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI, UploadFile
from peer_model import PORT, answer, keras_predict, prepare

app = FastAPI()
predict = keras_predict()


@app.post("/predict")
async def route(file: UploadFile) -> dict[str, object]:
    return answer(predict(prepare(await file.read())))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning", access_log=False)
