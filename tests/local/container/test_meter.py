"""What a container uses, in the words of its engine."""

from llmperf_local.container.meter import ContainerMeter, usage_in


def test_processor_time_and_memory_are_read() -> None:
    """Of the memory, files that the kernel would give up are none; either version of cgroups."""
    cpu = {"cpu_usage": {"total_usage": 1_500_000_000}}
    first = {"usage": 100_000, "stats": {"total_inactive_file": 40_000, "inactive_file": 1}}
    second = {"usage": 100_000, "stats": {"inactive_file": 30_000}}

    assert usage_in({"cpu_stats": cpu, "memory_stats": first}) == {
        "cpu_s": 1.5,
        "memory_bytes": 60_000,
    }
    assert usage_in({"memory_stats": second}) == {"memory_bytes": 70_000}


def test_what_is_not_told_is_left_out() -> None:
    """A container that has just ended has no figures."""
    assert usage_in({"cpu_stats": {"cpu_usage": {}}, "memory_stats": {}}) == {}


def test_a_meter_is_named_for_its_container() -> None:
    """Tables call it what it is."""
    meter = ContainerMeter("unix:///var/run/docker.sock", "llmperf-1")

    assert (meter.name, meter.what) == ("container", "llmperf-1")
