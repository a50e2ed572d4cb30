#!/bin/sh
# Says that the service is up.
echo "status: up since $(cut -d. -f1 /proc/uptime) s"
