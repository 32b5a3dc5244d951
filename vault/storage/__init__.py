"""The hands that hold: a database for rows, a store for objects.

Rule of this room: what is acknowledged here has reached the disk, and what does not read is never guessed at.
"""
