# The daemon in a container: two stages, no compiler and no test tools in the second, a user without rights, nothing to write but
# /var/lib/reconciler and /tmp. It runs with a read-only root. To build what can be built again, pin the base by its digest:
#   docker build --build-arg PYTHON=docker.io/library/python:3.11-slim-bookworm@sha256:... .
ARG PYTHON=docker.io/library/python:3.11-slim-bookworm
FROM ${PYTHON} AS build
WORKDIR /src
COPY deploy/requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/reconciler \
 && /opt/reconciler/bin/pip install --no-cache-dir --no-compile --require-hashes -r requirements.lock \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir hatchling
COPY reconciler reconciler
COPY plugins plugins
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /opt/wheels . \
 && /opt/reconciler/bin/pip install --no-cache-dir --no-compile --no-deps /opt/wheels/*.whl \
 && /opt/reconciler/bin/pip uninstall --yes pip setuptools \
 && python -m compileall -q -x 'kubernetes/(aio|client/(api|models))/|cloudflare/resources/' /opt/reconciler/lib
# what is left out above are thousands of generated modules that nothing here imports: a sixth of what is installed

FROM ${PYTHON}
# git fetches, ssh carries it, ssh-keygen and gpg check signatures
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git gpg openssh-client \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/reconciler --create-home reconciler
COPY --from=build /opt/reconciler /opt/reconciler
ENV PATH=/opt/reconciler/bin:$PATH PYTHONDONTWRITEBYTECODE=1 RECONCILER_STATE__PATH=/var/lib/reconciler/reconciler.db
USER 10001
WORKDIR /var/lib/reconciler
VOLUME /var/lib/reconciler
# the settings are mounted; `status` answers from the database and asks no system. A stack that is degraded (2) is no sick daemon.
HEALTHCHECK --interval=60s --timeout=10s --start-period=60s CMD reconciler --settings /etc/reconciler/reconciler.yaml status >/dev/null; test $? -ne 1
ENTRYPOINT ["reconciler", "--settings", "/etc/reconciler/reconciler.yaml"]
CMD ["run"]
