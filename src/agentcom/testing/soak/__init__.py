"""Storms, slow readers, a day of traffic and an idle hour, against a hub that is a real process."""
