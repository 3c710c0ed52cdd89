# The pipeline in a container, of Debian's and PyPI's packages; docs/ci.md says how it is used.
FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git make python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /project
# locked: PyTorch's default builds, with CUDA; cpu: its CPU builds, which come from its own package server
ARG TORCH=locked
ENV TORCH=$TORCH PATH=/project/.venv/bin:$PATH
COPY Makefile README.md pyproject.toml requirements.lock requirements-uv.lock ./
RUN mkdir src && make setup && rm -rf ~/.cache
COPY . .
CMD ["make", "repro"]
