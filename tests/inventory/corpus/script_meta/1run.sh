#!/bin/sh
test "$1" = --list || exit 3
cat <<J
{"web": {"hosts": ["w1", "w2"], "vars": {"v": 1}}, "top": {"children": ["web", "db"]}, "db": ["d1"],
 "_meta": {"hostvars": {"w1": {"ansible_host": "10.0.0.1", "l": [1]}}}}
J
