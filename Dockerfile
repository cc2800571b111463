# aiops in a container: docker build -t aiops . ; docker run --rm aiops --help
# examples/compose/ runs it beside Airflow, Postgres and Ollama.

ARG PYTHON=3.13.5-slim-bookworm

FROM python:${PYTHON} AS build
# Any of the extras in pyproject.toml.
ARG EXTRAS=postgres,notify
WORKDIR /src
# First what changes least: the dependencies are another layer than the program.
COPY pyproject.toml README.md LICENSE requirements/dev.txt ./
COPY aiops_cli/__init__.py aiops_cli/__init__.py
COPY knowledge/__init__.py knowledge/__init__.py
# The versions that the tests ran with; pip itself is not shipped.
ENV PIP_PYTHON=/opt/aiops/bin/python
RUN python -m venv --without-pip /opt/aiops \
 && pip install --no-cache-dir --constraint dev.txt ".[${EXTRAS}]" \
 && pip uninstall --yes aiops-cli
COPY aiops_cli aiops_cli
COPY knowledge knowledge
RUN pip install --no-cache-dir --no-deps .

FROM python:${PYTHON}
# tini ends what a token command leaves behind, and hands SIGTERM on.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/aiops /opt/aiops
# Group 0, so that a cluster may give it any user id.
RUN install -d -o 10001 -g 0 -m 0770 /var/lib/aiops \
 && install -d -o 10001 -g 0 -m 2770 /var/spool/aiops
ENV PATH=/opt/aiops/bin:$PATH \
    HOME=/var/lib/aiops \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/aiops
USER 10001:0
ENTRYPOINT ["tini", "--", "aiops"]
CMD ["--help"]
