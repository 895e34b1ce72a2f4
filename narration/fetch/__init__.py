"""Downloads of URLs that other people supply: from public addresses only, limited in size and time.

```
FetchError
├── FetchRefused       a URL that must not be fetched, or an answer that is not a file
├── FetchTooLarge      more bytes than allowed
└── FetchUnreachable   no answer in time, or an answer that says to try again
```
"""

from narration.fetch.download import fetch
from narration.fetch.errors import FetchError, FetchRefused, FetchTooLarge, FetchUnreachable

__all__ = ["FetchError", "FetchRefused", "FetchTooLarge", "FetchUnreachable", "fetch"]
