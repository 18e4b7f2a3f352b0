module d2k.io/tests/clients/reaper

go 1.26
