# A finished message by Perl's Net::SMTP: the argument is the file of a job.
use strict;
use warnings;
use Authen::SASL;
use JSON::PP;
use Net::SMTP;

sub slurp { my ($path) = @_; open my $file, '<:raw', $path or die "$path: $!"; local $/; return <$file>; }

my $job = decode_json(slurp($ARGV[0]));
my $smtp = Net::SMTP->new(
    $job->{host},
    Port => $job->{port}, Hello => 'client.test', Timeout => 30,
    $job->{auth} ? () : (SendHello => 0),
    SSL => $job->{tls} eq 'implicit', SSL_ca_file => $job->{ca},
) or die "connect: $@";

sub check { my ($done, $what) = @_; die "$what: ", $smtp->code, ' ', $smtp->message unless $done; }

check($smtp->starttls(SSL_ca_file => $job->{ca}), 'starttls') if $job->{tls} eq 'starttls';
if ($job->{auth}) {
    my $sasl = Authen::SASL->new(
        mechanism => $job->{auth},
        callback => { user => $job->{user}, pass => $job->{secret}, authname => $job->{user} },
    );
    check($smtp->auth($sasl), 'auth');
} else {
    check($smtp->command('HELO', 'client.test')->response == 2, 'helo');
}
my $message = slurp($job->{raw});
my @announced = $job->{auth} ? (Size => length $message, Bits => '8') : ();
check($smtp->mail($job->{sender}, @announced), 'mail');
check($smtp->recipient(@{ $job->{recipients} }), 'recipient');
$message =~ s/\r\n/\n/g; # it writes CRLF itself
check($smtp->data($message), 'data');
$smtp->quit;
