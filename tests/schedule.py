"""In which order the files of tests are begun when several processes run them."""

from xdist.scheduler import LoadFileScheduling

# What takes longest comes first, so that no process ends long after the others. Files of one line share what a whole
# session makes once, the running stages or the engines, and go to one process.
FIRST = """
end_to_end/test_commands end_to_end/test_pipeline end_to_end/test_openai_client \
end_to_end/test_webhooks end_to_end/test_tutorial
transcribe/test_engine_messages transcribe/test_engine
faults/test_catalogue
transcribe/test_engine_faults
end_to_end/test_dashboard
end_to_end/test_workers
end_to_end/test_demo
chaos/test_short_drill
end_to_end/test_up
end_to_end/test_enrichment
enrich/test_enrich_sdks
faults/test_set_up
transcribe/test_calibration
webhook/test_webhook_command
decode/test_hostile_messages
decode/test_formats
doctor/test_bare_machine
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
