"""The one place that speaks to a cluster: raw JSON over the ``kubernetes`` package's transport, one deadline per call, no retries.

The typed classes of that package are left alone: they cost a second and 70 MiB to import and lose fields they do not know.
"""

import json
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config
from yaml import YAMLError

from reconciler.driver import SpanFactory, no_span
from reconciler.errors import DriverError, Permanent, Transient
from reconciler.resource import JSONObject, SecretValue
from reconciler.writing import may_write
from reconciler_k8s.answers import failure
from reconciler_k8s.config import KubernetesConfig
from reconciler_k8s.names import qualified
from reconciler_k8s.rights import right_of

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
WHOLE = "application/json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True)
class Served:
    """One kind as this cluster serves it."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """Give ``group/version``, or the version alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_kind(self) -> str:
        """Give the kind as ids have it."""
        return qualified(self.group, self.kind)

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Give the URL path of the collection or of one object."""
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        middle = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        return f"{base}{middle}/{self.plural}" + (f"/{quote(name, safe='')}" if name else "") + (f"/{subresource}" if subresource else "")


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``about`` begins every error message; ``confidential`` keeps the server's texts out of it."""

    method: str
    path: str
    about: str
    query: Mapping[str, str] = field(default_factory=dict)
    accept: str = WHOLE
    content_type: str = ""
    body: Any = None
    confidential: bool = False


@dataclass(slots=True)
class Cluster:
    """A lazy connection to one API server."""

    config: KubernetesConfig
    span: SpanFactory = no_span
    narrow: set[Served] = field(default_factory=set)
    """Kinds that these credentials may not list in the whole cluster."""
    _api: ApiClient | None = None

    @property
    def api(self) -> ApiClient:
        """Connect on first use. Raises Permanent when the configuration leads nowhere."""
        if self._api is None:
            self._api = ApiClient(_configuration(self.config))
            self._api.user_agent = "reconciler"
        return self._api

    def close(self) -> None:
        """Drop every pooled connection."""
        if self._api is not None:
            self._api.rest_client.close()
            self._api = None

    def send(self, call: Call) -> tuple[int, JSONObject]:
        """Make one call. Gives the status code and the decoded body; raises DriverError for every other outcome."""
        with _translated(call.about, confidential=call.confidential), self.span(f"{call.method} {call.path}"):
            if call.method != "GET" and "dryRun" not in call.query:
                may_write()
            code, headers, body, credential = self._exchange(call)
            if code == 401:
                self._api = None  # tokens and client certificates are replaced on disk: read them again for the next call
            if code >= 300:
                after, right = headers.get("retry-after"), right_of(call.method, call.path)
                raise failure(call.about, code, body, retry_after=after, confidential=call.confidential, right=right, credential=credential)
            answer = json.loads(body) if body else {}
            if not isinstance(answer, dict):
                raise Transient(f"{call.about}: the server answered with something that is not an object")
            return code, answer

    def _exchange(self, call: Call) -> tuple[int, Mapping[str, str], bytes, SecretValue]:
        headers = {"Accept": call.accept, "User-Agent": "reconciler", "Accept-Encoding": "gzip"}
        if call.body is not None:
            headers["Content-Type"] = call.content_type or WHOLE
        self.api.update_params_for_auth(headers, [], ["BearerToken"], call.path, call.method, None)
        url = self.api.configuration.host + call.path + (f"?{urlencode(call.query)}" if call.query else "")
        pool = self.api.rest_client.pool_manager
        response = pool.request(
            call.method,
            url,
            headers=headers,
            body=None if call.body is None else json.dumps(call.body, separators=(",", ":")).encode(),
            timeout=urllib3.Timeout(total=self.config.timeout),
            retries=False,
            redirect=False,
        )
        return response.status, {key.lower(): value for key, value in response.headers.items()}, response.data, _shown(headers)

    def discover(self) -> dict[tuple[str, str], Served]:
        """Ask what is served, in two requests: (apiVersion, kind) -> how."""
        found: dict[tuple[str, str], Served] = {}
        for path in ("/api", "/apis"):
            _, answer = self.send(Call("GET", path, "discovery", accept=DISCOVERY))
            if answer.get("kind") != "APIGroupDiscoveryList":
                raise Permanent("discovery: the server does not aggregate discovery; Kubernetes 1.27 or newer is needed")
            for group in answer.get("items") or ():
                for one in _served(group):
                    found.setdefault((one.api_version, one.kind), one)
        return found

    def pages(self, served: Served, namespace: str, selector: str, *, whole: bool) -> Iterator[list[JSONObject]]:
        """List by label, page by page. Raises Transient when the listing breaks off: a part is never given for the whole."""
        about = f"list {served.plural}" + (f" in {namespace}" if namespace else "")
        limit = max(self.config.page // 10, 1) if whole else self.config.page
        query = {"labelSelector": selector, "limit": str(limit)}
        accept = WHOLE if whole else METADATA_LIST
        while True:
            _, answer = self.send(
                Call("GET", served.path(namespace), about, query, accept, confidential=whole or served.full_kind == "Secret")
            )
            items = answer.get("items")
            if not isinstance(items, list) and items is not None:
                raise Transient(f"{about}: the answer holds no list")
            yield items or []
            token = (answer.get("metadata") or {}).get("continue")
            if not token:
                return
            query = {**query, "continue": token}

    def places(self, served: Served, namespaces: Iterable[str]) -> list[str]:
        """Name the namespaces by which a kind is listed; one that is empty stands for the whole cluster.

        ``namespaces`` are those that the stack uses: they are listed one by one where the rights are known to be narrow.
        """
        if not served.namespaced:
            return [""]
        return list(self.config.namespaces) or (sorted({*namespaces} - {""}) if served in self.narrow else [""])

    def any(self, served: Served, namespace: str, selector: str) -> bool:
        """Say whether an object with this label exists."""
        query = {"labelSelector": selector, "limit": "1"}
        _, answer = self.send(Call("GET", served.path(namespace), f"list {served.plural}", query, METADATA_LIST))
        return bool(answer.get("items") or (answer.get("metadata") or {}).get("continue"))

    def stream(self, call: Call, read_timeout: float) -> "AbstractContextManager[tuple[Callable[[], None], Iterator[bytes]]]":
        """Open a watch: give what ends it from another thread, and its lines as they come.

        ``read_timeout`` seconds of silence raise Transient, as a connection that breaks does.
        """
        return _stream(self, call, read_timeout)


@contextmanager
def _stream(cluster: Cluster, call: Call, read_timeout: float) -> Iterator[tuple[Callable[[], None], Iterator[bytes]]]:
    headers = {"Accept": call.accept, "User-Agent": "reconciler"}
    cluster.api.update_params_for_auth(headers, [], ["BearerToken"], call.path, call.method, None)
    url = f"{cluster.api.configuration.host}{call.path}?{urlencode(call.query)}"
    with _translated(call.about, confidential=True):
        response = cluster.api.rest_client.pool_manager.request(
            call.method,
            url,
            headers=headers,
            timeout=urllib3.Timeout(connect=cluster.config.timeout, read=read_timeout),
            retries=False,
            preload_content=False,
        )
        try:
            if response.status >= 300:
                after, right = response.headers.get("retry-after"), right_of(call.method, call.path, watch=True)
                said, shown = response.read(4096), _shown(headers)
                raise failure(call.about, response.status, said, retry_after=after, right=right, credential=shown)
            yield response.shutdown, _lines(response)
        finally:
            response.close()


def _shown(headers: Mapping[str, str]) -> SecretValue:
    """Give what a request showed of us: the token without the word before it."""
    return SecretValue(headers.get("authorization", "").rpartition(" ")[2])


def _lines(response: Any) -> Iterator[bytes]:
    rest = b""
    for chunk in response.stream(65536, decode_content=False):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line)


def _served(group: JSONObject) -> Iterator[Served]:
    name = (group.get("metadata") or {}).get("name", "")
    for version in group.get("versions") or ():
        for one in version.get("resources") or ():
            if "list" in (one.get("verbs") or ()):
                yield Served(name, version["version"], one["responseKind"]["kind"], one["resource"], one.get("scope") == "Namespaced")


@contextmanager
def _translated(about: str, *, confidential: bool) -> Iterator[None]:
    """Turn every foreign exception into one of ours."""
    try:
        yield
    except DriverError:
        raise
    except (urllib3.exceptions.SSLError, ssl.SSLError) as error:
        raise Permanent(f"{about}: the server's certificate is not accepted ({type(error).__name__}); set ca_file") from None
    except urllib3.exceptions.NewConnectionError:
        raise Transient(f"{about}: nobody answers at this address, or it has no name") from None
    except urllib3.exceptions.TimeoutError as error:
        raise Transient(f"{about}: no answer in time ({type(error).__name__})") from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Transient(f"{about}: the connection failed ({type(error).__name__})") from None
    except ApiException as error:
        raise failure(about, int(error.status or 0), b"", confidential=confidential) from None
    except ValueError as error:
        raise Transient(f"{about}: the answer is not JSON ({type(error).__name__})") from None


def _configuration(config: KubernetesConfig) -> Configuration:
    made = Configuration()
    try:
        if config.kubeconfig is not None:
            load_kube_config(str(config.kubeconfig), context=config.context or None, client_configuration=made, persist_config=False)  # type: ignore[no-untyped-call]
        elif config.in_cluster:
            load_incluster_config(client_configuration=made)  # type: ignore[no-untyped-call]
        else:
            _from_url(made, config)
    except (ConfigException, OSError, ValueError, KeyError, TypeError, YAMLError) as error:
        raise Permanent(
            f"the target's credentials cannot be loaded ({type(error).__name__}); check kubeconfig, context or in_cluster"
        ) from None
    _check_credentials(made)
    if not made.verify_ssl:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # it was asked for by name
    made.retries = False
    made.connection_pool_maxsize = config.workers + 2
    return made


def _check_credentials(made: Configuration) -> None:
    """Say at once what would otherwise come out as a refused or a broken connection."""
    for path in (made.ssl_ca_cert, made.cert_file, made.key_file):
        if path and not Path(path).is_file():
            raise Permanent(f"{path} does not exist; it should hold a certificate or key of the target")
    if made.host.startswith("https") and not made.api_key and not made.cert_file:
        raise Permanent("the target gives no credentials: neither a token nor a client certificate, or its exec plugin failed")


def _from_url(made: Configuration, config: KubernetesConfig) -> None:
    made.host = config.url.rstrip("/")
    made.verify_ssl = not config.insecure
    if config.ca_file is not None:
        made.ssl_ca_cert = str(config.ca_file)
    if config.token is not None:
        made.api_key["authorization"] = config.token.get_secret_value()
        made.api_key_prefix["authorization"] = "Bearer"
