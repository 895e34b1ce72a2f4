"""Draft engine: real words at a narrator's pace by espeak-ng on the CPU, without weights or a GPU.

engine          the engine: one espeak-ng process for each request
espeak_process  the program of that process: text on stdin, samples on stdout
espeak_voice    chooses espeak-ng's voice for a text's script
limiter         gives espeak-ng's samples the dynamics of a recording
"""
