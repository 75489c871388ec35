"""Receives voice messages and sends them to Voicemill: by its Dramatiq actor, and reads the jobs by a client."""

import dramatiq
from django.http import Http404, JsonResponse

import actors
from voicemill import Client, Refused, UnknownJob, decode

voicemill = Client()


def send(request):
    try:
        message = decode.send(request.GET["source"], language="ko", metadata={"filename": "voice.ogg"})
    except Refused as error:
        return JsonResponse({"detail": str(error)}, status=422)
    return JsonResponse({"id": message.message_id, "status": voicemill.get(message.message_id).status})


def read(_request, job_id):
    try:
        job = voicemill.get(job_id)
    except UnknownJob:
        raise Http404 from None
    return JsonResponse({"status": job.status, "language": job.options.language, "metadata": job.metadata})


def own(_request):
    message = actors.greet.send("Kim")
    return JsonResponse({"queued": dramatiq.get_broker().queues[message.queue_name].qsize()})
