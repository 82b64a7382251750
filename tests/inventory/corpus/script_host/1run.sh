#!/bin/sh
if test "$1" = --list; then
  echo '{"web": {"hosts": ["w1", "w2"]}}'
elif test "$2" = w1; then
  echo '{"x": 1}'
else
  echo "{}"
fi
