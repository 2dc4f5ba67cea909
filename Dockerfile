# The page and its HTTP interface on a CPU, as a user without rights.
#   docker build -t avser .
#   docker run --rm -p 127.0.0.1:7860:7860 avser        (more flags of avser serve may follow)
FROM python:3.12-slim AS build
COPY pyproject.toml README.md LICENSE /src/
COPY avser /src/avser
COPY datamodules /src/datamodules
COPY configs /src/configs
COPY checkpoints /src/checkpoints
# torch of the default index brings gigabytes for GPUs: flags of pip can name an index of CPU builds,
#   docker build --build-arg PIP_EXTRA="--extra-index-url ADDRESS" -t avser .
ARG PIP_EXTRA=""
RUN python -m venv /opt/avser \
 && /opt/avser/bin/pip install --no-cache-dir ${PIP_EXTRA} '/src[web]'

FROM python:3.12-slim
COPY --from=build /opt/avser /opt/avser
RUN useradd --system --create-home avser
USER avser
WORKDIR /home/avser
ENV PATH=/opt/avser/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=90s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
# inside a container 0.0.0.0 is the container's own network; -p above says who can reach it
ENTRYPOINT ["avser", "serve", "--host", "0.0.0.0"]
