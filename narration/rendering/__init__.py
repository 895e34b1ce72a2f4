"""Rendering the clips of a narration into audio files and captions on disk.

- `render` reads the clips from the store and calls the other modules.
- `timeline` places each clip in the master; audio and captions both take their times from it.
- `assembly` produces the samples of the master from the timeline: clips levelled and faded, with
  silence between them.
- `master` brings these samples to a loudness and writes the WAV and MP3 files.
- `captions` times the captions and writes SRT and WebVTT; `caption_lines` breaks their text into lines.
"""
