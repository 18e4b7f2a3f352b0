# Makes the program, or takes it from the cache.
if [ -e /cache/program ]; then echo taken from the cache; else echo built; echo program > /cache/program; fi
cp /cache/program /dist/program
chmod 755 /dist/program
