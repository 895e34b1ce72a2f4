"""Speech-server engine: speaks through any server with OpenAI's `/v1/audio/speech`, over HTTP.

options         the server's settings, checked, and the model id that they make
engine          the engine: one HTTP request for each request, as many at once as there are slots
request_body    the JSON that is sent, with the fields of the server's kind
http_request    sends it: within a time and a size, and with a typed failure for every other outcome
response_audio  the response's bytes to a waveform at 24 kHz
"""
