from prometheus_client.parser import text_string_to_metric_families

from agentcom.telemetry import metrics
from agentcom.telemetry.metrics import Metrics


def samples(measured: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(measured.render().decode())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_two_hubs_in_one_process_do_not_share_figures() -> None:
    one, other = Metrics(), Metrics()
    one.restarts.labels("timers").inc()

    assert samples(one)["agentcom_service_restarts_total", ("timers",)] == 1
    assert ("agentcom_service_restarts_total", ("timers",)) not in samples(other)


def test_counts_are_asked_for_when_someone_reads() -> None:
    measured = Metrics()
    tasks = {"queued": 3}
    measured.watch(tasks=lambda: tasks, agents=lambda: {"idle": 2}, connections=dict)
    tasks["queued"] = 4

    read = samples(measured)

    assert read[metrics.TASKS, ("queued",)] == 4
    assert read[metrics.AGENTS, ("idle",)] == 2


def test_a_plain_number_is_asked_for_too() -> None:
    measured = Metrics()
    measured.watch_number(metrics.LEASES, "Machines with a running lease", lambda: 7)

    assert samples(measured)[metrics.LEASES, ()] == 7


def test_latencies_go_into_buckets() -> None:
    measured = Metrics()
    measured.commit.observe(0.004)

    read = samples(measured)

    assert read["agentcom_commit_seconds_bucket", ("0.005",)] == 1
    assert read["agentcom_commit_seconds_bucket", ("0.002",)] == 0


def test_a_bucket_takes_its_bound_and_counts_all_below() -> None:
    measured = Metrics()
    for seconds in (0.001, 0.002, 0.0021, 99.0):
        measured.commit.observe(seconds)

    read = samples(measured)

    buckets = [read["agentcom_commit_seconds_bucket", (le,)] for le in ("0.001", "0.002", "0.005")]
    assert buckets == [1, 2, 3]
    assert read["agentcom_commit_seconds_bucket", ("30.0",)] == 3
    assert read["agentcom_commit_seconds_bucket", ("+Inf",)] == 4
    assert read["agentcom_commit_seconds_count", ()] == 4
    assert read["agentcom_commit_seconds_sum", ()] == 0.001 + 0.002 + 0.0021 + 99.0


def test_every_name_is_ours_and_stands_once() -> None:
    public = {name: it for name, it in vars(metrics).items() if name.isupper() and name[0] != "_"}
    names = [it for name, it in public.items() if not name.startswith("CONTENT_TYPE")]

    assert all(isinstance(it, str) and it.startswith("agentcom_") for it in names)
    assert len(set(names)) == len(names)
