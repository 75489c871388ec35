"""In which order the files of tests are begun when several processes run them."""

from xdist.scheduler import LoadFileScheduling

# What takes longest comes first, so that no process ends long after the others. Files of one line share what a whole
# session makes once, the running stages or the engines, and go to one process.
FIRST = """
end_to_end/test_commands end_to_end/test_pipeline end_to_end/test_openai_client \
end_to_end/test_webhooks end_to_end/test_tutorial
end_to_end/test_dashboard
end_to_end/test_up
end_to_end/test_workers
transcribe/test_engine_messages transcribe/test_engine
end_to_end/test_enrichment
faults/test_catalogue
transcribe/test_backend_contract
transcribe/test_instruction_sets
end_to_end/test_demo
delivery/test_killed_workers
faults/test_set_up
packaging/test_wheel
decode/test_formats
enrich/test_enrich_sdks
webhook/test_webhook_workers
chaos/test_short_drill
transcribe/test_engine_faults
web/test_web_command
decode/test_unfit_worker
end_to_end/test_preflight
doctor/test_bare_machine
decode/test_hostile_messages
webhook/test_webhook_command
transcribe/test_recognizer
transcribe/test_library
integration/test_client_commands
delivery/test_redis_trouble
decode/test_normalisation
decode/test_limits
delivery/test_tls
transcribe/test_calibration
""".strip().splitlines()
PLACES = {f"{file}.py": place for place, line in enumerate(FIRST) for file in line.split()}


def place(path):
    """When a file's turn comes; those that are not named stay in their order behind the others."""
    return PLACES.get("/".join(path.rsplit("/", 2)[-2:]), len(FIRST))


class LongestFirst(LoadFileScheduling):
    """Gives a process whole files, in the order of the collection."""

    def __init__(self, config, log=None):
        super().__init__(config, log)
        config.option.loadscopereorder = False  # it would be by the number of their tests

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return FIRST[place(file)] if place(file) < len(FIRST) else file
