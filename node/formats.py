"""What every room of a node keeps to: how long a lease may be, and how long what peers hand each other is."""

MIN_LEASE_S = 3_600  # a shorter one would end before the holders have looked after the file once
MAX_LEASE_S = 90 * 86_400  # from now on. A file that nobody renews is gone after this time, whatever its publisher said

UPLOAD_ID_BYTES = 16  # random: nobody guesses another's upload
MAX_STATEMENT_BYTES = 512  # a holder statement has about 260
