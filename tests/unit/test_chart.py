"""The chart as rendered: of this chart, each selector finds its pods, nothing is root, no secret is a value."""

from typing import Any

import pytest
import yaml

from deploy.helm.render import EXAMPLES, RENDERED, stamp

Manifest = dict[str, Any]
NAMES = sorted(path.name for path in EXAMPLES.glob("*.yaml"))


def manifests(name: str, *kinds: str) -> list[Manifest]:
    found = [each for each in yaml.safe_load_all((RENDERED / name).read_text()) if each]
    return [each for each in found if each["kind"] in kinds or not kinds]


def pods(name: str) -> list[tuple[Manifest, Manifest]]:
    """Each workload with its pod's template."""
    found = [(each, each["spec"]["template"]) for each in manifests(name, "StatefulSet", "Deployment")]
    return found + [(each, each["spec"]["jobTemplate"]["spec"]["template"]) for each in manifests(name, "CronJob")]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_rendered_is_of_this_chart(name: str) -> None:
    assert stamp(EXAMPLES / name) in (RENDERED / name).read_text().splitlines()[0], "run `make chart`"


@pytest.mark.parametrize("name", NAMES)
def test_no_pod_is_root_or_writes_to_its_image(name: str) -> None:
    for workload, template in pods(name):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"], workload["kind"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            volumes = {volume["name"] for volume in pod["volumes"]}
            claims = workload["spec"].get("volumeClaimTemplates", [])
            volumes |= {claim["metadata"]["name"] for claim in claims}
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


@pytest.mark.parametrize("name", NAMES)
def test_each_selector_finds_its_pods(name: str) -> None:
    labels = [template["metadata"]["labels"] for _, template in pods(name)]

    def finds(selector: dict[str, str]) -> int:
        return sum(selector.items() <= each.items() for each in labels)

    for workload, template in pods(name):
        if workload["kind"] != "CronJob":
            assert workload["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
            assert finds(workload["spec"]["selector"]["matchLabels"]) == 1
    for service in manifests(name, "Service"):
        assert finds(service["spec"]["selector"]) == 1
    for budget in manifests(name, "PodDisruptionBudget"):
        assert finds(budget["spec"]["selector"]["matchLabels"]) == 1
    for policy in manifests(name, "NetworkPolicy"):
        assert finds(policy["spec"]["podSelector"]["matchLabels"]) == len(labels)
    services = [each["metadata"]["labels"] for each in manifests(name, "Service")]
    for monitor in manifests(name, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        assert services and all(wanted <= each.items() for each in services)


@pytest.mark.parametrize("name", NAMES)
def test_passwords_are_files_and_probes_ask_for_health(name: str) -> None:
    for workload, template in pods(name):
        for container in template["spec"]["containers"]:
            for variable in container["env"]:
                secret = ("PASSWORD", "KEY", "SECRET", "CHAIN_RPC_URL")
                if variable["name"].endswith(secret):
                    assert "valueFrom" in variable, variable
            if workload["kind"] != "CronJob":
                is_worker = template["metadata"]["labels"]["app.kubernetes.io/component"] == "worker"
                assert container["livenessProbe"]["httpGet"]["path"] == ("/health" if is_worker else "/metrics")
                assert container["readinessProbe"]["httpGet"]["path"] == "/health"
                assert container["startupProbe"]["httpGet"]["port"] == container["ports"][0]["name"]


def test_the_jobs_of_one_writer_never_run_twice() -> None:
    for name in NAMES:
        for workload, template in pods(name):
            if template["metadata"]["labels"]["app.kubernetes.io/component"] in ("settle", "watch"):
                if workload["kind"] == "CronJob":
                    assert workload["spec"]["concurrencyPolicy"] == "Forbid"
                else:
                    assert workload["spec"]["replicas"] == 1 and workload["spec"]["strategy"] == {"type": "Recreate"}
