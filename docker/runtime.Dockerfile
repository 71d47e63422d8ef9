# The run time alone: exported models, no torch. Not built here; docs/deploy.md says what was tried instead.
#   docker build -f docker/runtime.Dockerfile -t panoptic-runtime .
#   docker run --rm -v $PWD/models:/models -v $PWD/images:/images -v $PWD/out:/out panoptic-runtime \
#     --instances /models/solov2 --semantics /models/efficientps --images /images --output /out
FROM python:3.11-slim
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir -c constraints.txt '.[runtime]' && python -m prediction.compile_kernels
ENTRYPOINT ["python", "scripts/predict.py"]
