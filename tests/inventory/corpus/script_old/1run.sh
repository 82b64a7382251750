#!/bin/sh
test "$1" = --list && echo '{"web": ["w1"], "empty": [], "all": {"vars": {"a": 1}}}' || echo '{}'
