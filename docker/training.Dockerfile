# Everything, for a machine with an NVIDIA GPU. Not built here; docs/deploy.md says what was tried instead.
#   docker build -f docker/training.Dockerfile -t panoptic-training .
#   docker run --rm --gpus all --shm-size 8g -v $PWD/datasets:/app/datasets -v $PWD/outputs:/app/outputs panoptic-training make demo
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY . .
RUN make setup
CMD ["make", "demo"]
