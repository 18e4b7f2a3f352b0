echo "insert row" >> /var/lib/db/table
touch /var/lib/db/ready
