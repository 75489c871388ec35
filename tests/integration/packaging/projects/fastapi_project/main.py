"""Receives voice messages and sends them to Voicemill."""

import dramatiq
from fastapi import FastAPI, HTTPException, Request

import actors
import config
import pipeline
from voicemill import AsyncClient, Refused, UnknownJob

app = FastAPI()
voicemill = AsyncClient()


@app.post("/messages")
async def send(request: Request):
    try:
        job = await voicemill.send_file(await request.body(), "voice.ogg", language=config.LANGUAGE)
    except Refused as error:
        raise HTTPException(422, str(error)) from None
    return {"id": job.id, "status": job.status}


@app.get("/messages/{job_id}")
async def read(job_id: str):
    try:
        job = await voicemill.get(job_id)
    except UnknownJob:
        raise HTTPException(404) from None
    return {"status": job.status, "language": job.options.language, "metadata": job.metadata}


@app.get("/own")
async def own():
    message = actors.greet.send("Kim")
    return {
        "queued": dramatiq.get_broker().queues[message.queue_name].qsize(),
        "steps": pipeline.STEPS,
    }
