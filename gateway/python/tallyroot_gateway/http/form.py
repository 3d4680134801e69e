"""What `--discover` prints: nothing answers to a question here, so it is what the gateway's own file says."""

from tallyroot_gateway.http.config import HttpConfig, MachineOptions, MeterOptions

_HEAD = """\
# A form for `tallyroot register`: check the price, who is paid and each capacity, then register it.
# A reading is sent by
#   curl -X POST {url} -H 'Authorization: Bearer TOKEN' -H 'Content-Type: application/json' -d '{body}'
zone = "UTC"
payees = [
    {{ account = "0x1111111111111111111111111111111111111111", name = "owner", share = "100 %" }},
]
"""

_CAPACITIES = {"Wh": "10 kW", "m": "100 km/h"}


def form_of(config: HttpConfig) -> str:
    """A form of the machines that the file names, with the meters that it names."""
    scheme = "http" if config.http.certificate_file is None else "https"
    first = config.machines[0]
    meter, options = next(iter(_meters(first).items()))
    body = f'{{"machine": "{first.id}", "meter": "{meter}", "{options.counts}": 1}}'
    lines = [_HEAD.format(url=f"{scheme}://{config.http.host}:{config.http.port}/v1/readings", body=body)]
    for machine in config.machines:
        lines.append(f'[[machines]]\nid = "{machine.id}"\nkind = "machine"')
        if machine.route is not None:
            lines.append(f'site = "{machine.route}"')
        meters = _meters(machine)
        billed = [name for name, one in meters.items() if one.counts != "level"]
        price = "" if not billed else f'"{billed[0]}: EUR 0.10 per {_per(meters[billed[0]].unit)}"'
        lines.append(f"tariff = [{price}]")
        for name, one in meters.items():
            capacity = _CAPACITIES.get(one.unit, "1000 per hour")
            lines.append(
                f'[machines.meters.{name}]\ncounts = "{one.counts}"\nunit = "{one.unit}"\ncapacity = "{capacity}"'
            )
    return "\n".join(lines)


def _meters(machine: MachineOptions) -> dict[str, MeterOptions]:
    return machine.meters or {"energy": MeterOptions(counts="register", unit="Wh")}


def _per(unit: str) -> str:
    return "kWh" if unit == "Wh" else unit
