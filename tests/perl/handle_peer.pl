# The original's Handle as a peer: it reads each item with push_read and sends it back with
# push_write, as the same type. Started by test_handle_interop.py, which says what to do:
#
#   perl handle_peer.pl listen MODE CERT KEY     prints its port, serves one connection
#   perl handle_peer.pl connect PORT MODE CERT   connects
#
# MODE is plain, tls (from the start) or starttls (after a line STARTTLS). The first line of the
# conversation says which types follow: "line json cbor netstring packstring:n ...". The last one
# that comes back is followed by a close.
use strict;
use warnings;
use AnyEvent;
use AnyEvent::Handle;
use AnyEvent::Socket;

$| = 1;
my ($role, @args) = @ARGV;
my $done = AE::cv;
my $handle;

sub fail { print STDERR "perl: $_[0]\n"; $done->send (1) }

sub echo {
   my ($h, @types) = @_;
   unless (@types) {
      $h->on_drain (sub { $_[0]->push_shutdown; });
      $h->on_eof (sub { $_[0]->destroy; $done->send (0) });
      $h->on_read (sub { fail ("unexpected: $_[0]{rbuf}") });
      return;
   }
   my ($type, @param) = split /:/, shift @types;
   if ($type eq "chunk") {
      $h->push_read (chunk => $param[0], sub { $_[0]->push_write ($_[1]); echo ($_[0], @types) });
   } elsif ($type eq "regex") {
      $h->push_read (regex => qr<;\n>, undef, qr<^.*[^;\n]>s, sub { $_[0]->push_write ($_[1]); echo ($_[0], @types) });
   } elsif ($type eq "line") {
      $h->push_read (line => sub { $_[0]->push_write ("$_[1]\015\012"); echo ($_[0], @types) });
   } elsif ($type eq "json") {
      $h->push_read (json => sub { $_[0]->push_write (json => $_[1]); echo ($_[0], @types) });
   } else {
      $h->push_read ($type => @param, sub { $_[0]->push_write ($type => @param, $_[1]); echo ($_[0], @types) });
   }
}

sub begin {
   my ($fh, $mode, $cert, $key) = @_;
   my $server = defined $key;
   my $ctx = $server
      ? { cert_file => $cert, key_file => $key }
      : { verify => 1, verify_peername => "https", ca_file => $cert };
   my @tls = $mode eq "tls" ? (tls => $server ? "accept" : "connect", tls_ctx => $ctx) : ();
   $handle = new AnyEvent::Handle
      fh        => $fh,
      peername  => "peer.test",
      on_error  => sub { fail ($_[2]) },
      @tls;
   my $types = sub { $handle->push_read (line => sub { echo ($_[0], split / /, $_[1]) }) };
   if ($mode eq "starttls" and $server) {
      $handle->push_read (line => sub {
         return fail ("expected STARTTLS, got $_[1]") unless $_[1] eq "STARTTLS";
         $_[0]->push_write ("go ahead\015\012");
         $_[0]->starttls ("accept", $ctx);
         $types->();
      });
   } elsif ($mode eq "starttls") {
      $handle->push_write ("STARTTLS\015\012");
      $handle->push_read (line => sub {
         return fail ("expected go ahead, got $_[1]") unless $_[1] eq "go ahead";
         $_[0]->starttls ("connect", $ctx);
         $types->();
      });
   } else {
      $types->();
   }
}

my $guard;
my $timer = AE::timer 60, 0, sub { fail ("no end after 60 s") };
if ($role eq "listen") {
   my ($mode, $cert, $key) = @args;
   my $port;
   $guard = tcp_server "127.0.0.1", undef, sub { begin ($_[0], $mode, $cert, $key) },
      sub { $port = $_[2]; 1 };
   print "$port\n"; # now it listens
} else {
   my ($port, $mode, $cert) = @args;
   $guard = tcp_connect "127.0.0.1", $port, sub {
      return fail ("connect: $!") unless @_;
      begin ($_[0], $mode, $cert);
   };
}
exit $done->recv;
