"""From stored clips to a finished narration on disk: timeline, master, captions."""
