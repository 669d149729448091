"""LitServe with one worker process per core."""

from __future__ import annotations

import litserve as ls
from peer_model import CORES, PORT, answer, load, prepare


class Classifier(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.model = load(threads=1)

    def decode_request(self, request):
        return prepare(request["file"].file.read())

    def predict(self, batch):
        return self.model(batch)

    def encode_response(self, outputs):
        return answer(outputs)


if __name__ == "__main__":
    server = ls.LitServer(Classifier(), accelerator="cpu", workers_per_device=CORES, timeout=60)
    server.run(host="127.0.0.1", port=PORT, log_level="warning", generate_client_file=False)
