echo "create table" > /var/lib/db/table
