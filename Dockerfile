# The daemon in a container: a user without rights, a root that can be read-only, nothing to write but /var/lib/reconciler and /tmp.
#   docker build --tag reconciler .
# To build the same again, pin the base by its digest:
#   --build-arg PYTHON=docker.io/library/python:3.11-slim-bookworm@sha256:...
# Behind an index or a proxy of your own, lend pip its settings and authorities for the build; neither gets into the image:
#   --secret id=pip,src=/etc/pip.conf --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt
# Buildah and Podman keep the HEALTHCHECK with --format docker only.
ARG PYTHON=docker.io/library/python:3.11-slim-bookworm

# What it is made of, by the lock. Nothing imports the generated modules that are taken out (a test holds that): two thirds of all.
FROM ${PYTHON} AS packages
WORKDIR /src
COPY deploy/build.lock deploy/requirements.lock ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python -m venv /opt/build \
 && python -m venv --without-pip /opt/reconciler \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r build.lock \
 && /opt/build/bin/pip --python /opt/reconciler/bin/python install --no-cache-dir --no-compile --require-hashes -r requirements.lock
RUN cd /opt/reconciler/lib/python3*/site-packages \
 && rm -r cloudflare/resources kubernetes/aio kubernetes/client/api \
 && find cloudflare/types -mindepth 1 -maxdepth 1 -type d ! -name shared -exec rm -r {} + \
 && find kubernetes/client/models -name 'v[0-9]*.py' -delete \
 && python -m compileall -q --invalidation-mode unchecked-hash .

# The program itself, apart: a new commit is a new layer of a few megabytes.
FROM packages AS program
COPY pyproject.toml README.md LICENSE ./
COPY reconciler reconciler
COPY plugins plugins
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /opt/wheels . \
 && /opt/build/bin/pip --python /opt/reconciler/bin/python install --no-index --no-compile --no-deps --root /opt/program /opt/wheels/*.whl \
 && python -m compileall -q --invalidation-mode unchecked-hash -s /opt/program /opt/program
COPY deploy/image/healthcheck.py /opt/program/opt/reconciler/bin/healthcheck.py

FROM ${PYTHON}
# git fetches, ssh carries it, ssh-keygen and gpg check signatures; tini buries what they leave behind, and ends a daemon that is not yet up.
# Of git only what that takes: the rest wants Perl, which is larger than all of this. status.d is where scanners look for what dpkg does not know.
WORKDIR /tmp
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gpg libcurl3-gnutls libexpat1 libpcre2-8-0 openssh-client tini zlib1g \
 && apt-get download git && dpkg-deb --fsys-tarfile git_*.deb > git.tar \
 && tar --extract --file git.tar --directory / ./usr/bin/git ./usr/bin/git-upload-pack ./usr/bin/git-receive-pack \
    ./usr/lib/git-core/git-remote-http ./usr/lib/git-core/git-remote-https ./usr/share/doc/git/copyright \
 && mkdir --parents /var/lib/dpkg/status.d && dpkg-deb --field git_*.deb > /var/lib/dpkg/status.d/git \
 && rm -r git.tar git_*.deb /var/lib/apt/lists/* && apt-get clean \
 && groupadd --gid 10001 reconciler \
 && useradd --no-log-init --uid 10001 --gid 10001 --home-dir /var/lib/reconciler --shell /usr/sbin/nologin reconciler \
 && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/reconciler
COPY --from=packages /opt/reconciler /opt/reconciler
COPY --from=program /opt/program /
ENV PATH=/opt/reconciler/bin:$PATH PYTHONDONTWRITEBYTECODE=1 RECONCILER_STATE__PATH=/var/lib/reconciler/reconciler.db
USER 10001:10001
WORKDIR /var/lib/reconciler
VOLUME /var/lib/reconciler
# the settings are mounted. A system or a stack that is in trouble makes no sick daemon.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["python", "/opt/reconciler/bin/healthcheck.py", "/etc/reconciler/reconciler.yaml"]
ENTRYPOINT ["tini", "--", "reconciler", "--settings", "/etc/reconciler/reconciler.yaml"]
CMD ["run"]
