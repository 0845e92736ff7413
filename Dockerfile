# The daemon in a container: two stages, no compiler and no test tools in the second, a user without rights, nothing to write but /var/lib/reconciler.
FROM docker.io/library/python:3.11-slim AS build
WORKDIR /src
COPY deploy/requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/reconciler \
 && /opt/reconciler/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
 && /opt/reconciler/bin/pip install --no-cache-dir hatchling
COPY reconciler reconciler
COPY plugins plugins
RUN /opt/reconciler/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /opt/reconciler/bin/pip uninstall --yes hatchling \
 && /opt/reconciler/bin/python -m compileall -q /opt/reconciler/lib

FROM docker.io/library/python:3.11-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git openssh-client \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/reconciler --create-home reconciler
COPY --from=build /opt/reconciler /opt/reconciler
ENV PATH=/opt/reconciler/bin:$PATH PYTHONDONTWRITEBYTECODE=1 RECONCILER_STATE__PATH=/var/lib/reconciler/reconciler.db
USER 10001
WORKDIR /var/lib/reconciler
VOLUME /var/lib/reconciler
# the settings are mounted; `status` answers from the database and asks no system
HEALTHCHECK --interval=60s --timeout=10s --start-period=60s CMD ["reconciler", "--settings", "/etc/reconciler/reconciler.yaml", "status"]
ENTRYPOINT ["reconciler", "--settings", "/etc/reconciler/reconciler.yaml"]
CMD ["run"]
