"""The configuration of a firewall as it comes out of the box, with HAProxy installed and running. Pure."""

from reconciler_pfsense.emulator.configfile import dump


def base_config(*, wan: str, lan: str) -> str:
    """Give config.xml of a firewall with two interfaces and the rule that lets the LAN out."""
    interfaces = {
        name: {"enable": "", "if": device, "descr": name.upper(), "ipaddr": address, "subnet": "24"}
        for name, device, address in (("wan", "em0", wan), ("lan", "em1", lan))
    }
    let_out = {
        "type": "pass",
        "ipprotocol": "inet",
        "descr": "Default allow LAN to any rule",
        "interface": "lan",
        "tracker": "0100000101",
        "source": {"network": "lan"},
        "destination": {"any": ""},
    }
    package = {"name": "haproxy", "internal_name": "haproxy", "configurationfile": "haproxy.xml"}
    haproxy = {"enable": "", "maxconn": "1000", "nbthread": "1", "ha_backends": "", "ha_pools": ""}
    return dump(
        {
            "version": "23.9",
            "system": {"hostname": "fw", "domain": "home.arpa", "timezone": "Etc/UTC", "ssh": {"enable": "enabled"}},
            "interfaces": interfaces,
            "nat": {"outbound": {"mode": "automatic"}, "separator": ""},
            "filter": {"rule": [let_out], "separator": ""},
            "aliases": "",
            "revision": {"time": "1700000000", "description": "(system): initial", "username": "(system)"},
            "installedpackages": {"package": [package], "haproxy": haproxy},
        }
    )
